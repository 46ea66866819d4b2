"""Reports in a real browser: phone, tablet and desk, light and dark, keyboard, screen reader and print."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffexplain_fast.report.explanation import render_report
from diffexplain_fast.report.writing import write_report
from diffexplain_fast.results.explanation import ActivationScore, Explanation
from diffexplain_fast.results.pictures import Answer, Picture
from diffexplain_fast.tinyworld.words import GROUPS
from tests.report.browser import THEMES, WIDTHS, browser, opened, violations
from tests.report.pages import audit_example, example
from tests.report.test_attribution import attribution

LONG = "Staffordshire_bullterrier_or_a_word_that_never_ends_" * 3


def shown(label: str) -> dict[str, list[Picture]]:
    """Return pictures of every group, some recognised and some not."""
    image = Image.linear_gradient("L").resize((96, 96))
    answers = [Answer(i, 1.0, 0.9 - i / 10, i < 6, label if i < 6 else "house") for i in range(8)]
    groups = {"held_out": answers, "class_name": answers[::-1], "failures": answers[6:]}
    return {name: [Picture(image.copy(), answer) for answer in found] for name, found in groups.items()}


def results() -> list[Explanation]:
    """Return explanations of every kind: with and without pictures, a class, a neuron, a long label."""
    score = ActivationScore(8, None, None, 1.5, None)
    kinds: list[dict[str, Any]] = [
        {"pictures": shown("boat")},
        {"label": "fish", "pictures": shown("fish"), "output": "sigmoid"},
        {"label": LONG, "target": f"ClassProbability({LONG})", "pictures": shown(LONG)},
        {"label": None, "target": "Neuron(layer4, 17)", "activation": {"held_out": score}, "truth": None, "words": []},
    ]
    explanations = [example(**kind) for kind in kinds]
    for explanation in explanations:
        if held_out := explanation.pictures.get("held_out"):
            explanation.images = [picture.image for picture in held_out]
    return explanations


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of all kinds of results."""
    return render_report(results(), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module", params=["explanations", "audit", "attributions"])
def any_page(request: pytest.FixtureRequest, page_file: Path) -> Path:
    """The page of each kind of result."""
    if request.param == "explanations":
        return page_file
    if request.param == "audit":
        return audit_example().report(page_file.parent / "audit.html")
    return write_report([attribution(), attribution("sea", "fish")], page_file.parent / "attribution.html")


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    """A browser, shared by the tests of this file."""
    with browser() as found:
        yield found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", THEMES)
def test_nothing_overflows_and_axe_objects_to_nothing(started: Any, any_page: Path, width: int, theme: str) -> None:
    with opened(started, any_page, width, theme) as page:
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        wide = page.evaluate(
            "[...document.querySelectorAll('section *:not(svg *)')].filter(e => e.scrollWidth > e.clientWidth + 1"
            " && getComputedStyle(e).display !== 'inline' && e.clientWidth > 1).map(e => e.outerHTML.slice(0, 200))"
        )
        assert wide == []
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
        assert dark == (theme == "dark")
        assert violations(page) == []


def test_long_names_and_large_numbers_fit_on_a_small_phone(started: Any, tmp_path: Path) -> None:
    rows = audit_example().rows
    rows += [replace(row, concept=f"background:{LONG}", target=LONG, effect=1e15, high=2e15) for row in rows[:2]]
    result = attribution(LONG)
    result.effects[0].effect, result.effects[0].success = -1e15, 0.004
    for file in (
        audit_example(rows=rows).report(tmp_path / "audit.html"),
        write_report([result, attribution()], tmp_path / "attribution.html"),
        render_report(results(), tmp_path / "report.html"),
    ):
        for width in (320, 390):
            with opened(started, file, width) as page:
                page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (file.name, width)


def test_names_break_after_their_group_before_they_break_within_a_word(started: Any, tmp_path: Path) -> None:
    result = attribution()
    edits = [
        replace(one, concepts=("background:snowfield",), verified=True, points=-40.0, flipped=True)
        for one in result.found[0]
    ]
    file = write_report([replace(result, found={0: edits}), result], tmp_path / "attribution.html")
    with opened(started, file, 768) as page:
        lines = page.evaluate(
            "(() => { const cell = [...document.querySelectorAll('tbody th')].find(e => e.textContent.includes("
            "'background:snowfield')), range = document.createRange(); range.selectNodeContents(cell);"
            " const tops = [...range.getClientRects()].map(r => r.top);"
            " return [new Set(tops).size, cell.querySelectorAll('wbr').length] })()"
        )
    assert lines[0] <= 2 and lines[1] == 1


def test_a_name_of_a_group_is_not_broken_on_a_phone(started: Any, tmp_path: Path) -> None:
    groups = [*GROUPS, "companion", "intervention"]
    effects = [
        {"attribute": f"{group}:value", "effect": 3.0, "interval": [2.5, 3.5], "role": "spurious"} for group in groups
    ]
    file = render_report([example(truth={"attributes": effects})], tmp_path / "report.html")
    with opened(started, file, 390) as page:
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        lines = page.evaluate(
            "[...document.querySelectorAll('.kind')].map(e => [e.innerText, e.offsetHeight /"
            " parseFloat(getComputedStyle(e).lineHeight)])"
        )
    assert [name for name, _ in lines] == groups
    assert [name for name, count in lines if count > 1.5] == []


def test_everything_that_can_be_pressed_is_reached_by_the_keyboard(started: Any, any_page: Path) -> None:
    with opened(started, any_page) as page:
        wanted = page.evaluate(
            "[...document.querySelectorAll('a, button, input, summary')].filter(e => e.checkVisibility()).length"
        )
        page.evaluate("window.reached = new Set()")
        for _ in range(wanted + 2):
            page.keyboard.press("Tab")
            page.evaluate("reached.add(document.activeElement)")
        names = page.evaluate("[...reached].map(e => e.tagName)")
        assert {"A", "BUTTON", "INPUT", "SUMMARY"} <= set(names)
        assert len([name for name in names if name != "BODY"]) == wanted
        page.keyboard.press("Shift+Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


def test_a_dotted_word_opens_its_explanation_and_escape_closes_it(started: Any, page_file: Path) -> None:
    with opened(started, page_file) as page:
        page.focus("button[popovertarget=term-logit]")
        page.keyboard.press("Enter")
        assert page.is_visible("#term-logit") and "no unit" in page.inner_text("#term-logit")
        assert violations(page) == []
        page.keyboard.press("Escape")
        assert not page.is_visible("#term-logit")


def test_the_filter_hides_other_results(started: Any, page_file: Path) -> None:
    with opened(started, page_file) as page:
        page.fill("#filter", "FISH background")
        seen = page.evaluate("[...document.querySelectorAll('main section')].map(e => e.checkVisibility())")
        assert seen == [False, True, False, False]
        assert page.inner_text("#filter-status") == "1 of 4 shown"
        assert page.locator("[data-entry]:visible").count() == 1
        page.fill("#filter", "")
        assert page.locator("main section:visible").count() == 4 and page.inner_text("#filter-status") == ""


def test_the_filter_finds_the_words_of_verdicts_and_findings(started: Any, tmp_path: Path) -> None:
    file = audit_example().report(tmp_path / "audit.html")
    with opened(started, file) as page:
        for wanted in ("SNOW", "own object", "colour:red"):
            page.fill("#filter", wanted)
            assert page.inner_text("#filter-status") == "1 of 2 shown"
            assert page.locator("[data-entry]:visible").inner_text().startswith("boat")
        page.fill("#filter", "suffice")
        assert page.locator("[data-entry]:visible").inner_text().startswith("fish")
    with opened(started, write_report([attribution(), attribution("sea", "fish")], file)) as page:
        page.fill("#filter", "ground:sea")
        assert page.locator("[data-entry]:visible").inner_text().startswith("fish")


def test_the_filter_finds_a_class_that_has_no_section(
    started: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffexplain_fast.report.audit._MOST_TARGETS", 1)
    file = audit_example().report(tmp_path / "audit.html")
    for width in (390, 1280):
        with opened(started, file, width) as page:
            assert page.locator("[data-entry]:visible").count() == 2 and violations(page) == []
            page.fill("#filter", "fish")
            assert page.inner_text("#filter-status") == "1 of 2 shown"
            assert page.locator("main section:visible").inner_text().endswith("The pictures did not suffice.")
            page.fill("#filter", "snow")
            assert not page.is_visible("[data-holds]")


def test_paper_says_that_a_filter_hides_results(started: Any, page_file: Path) -> None:
    with opened(started, page_file) as page:
        assert not page.is_visible("#filter-status")
        page.fill("#filter", "fish")
        page.emulate_media(media="print")
        assert page.is_visible("#filter-status") and page.inner_text("#filter-status") == "1 of 4 shown"
        assert not page.is_visible("label[for=filter]") and not page.is_visible("#filter")


def test_without_script_everything_is_there_except_the_filter(started: Any, page_file: Path) -> None:
    with opened(started, page_file, java_script_enabled=False) as page:
        assert page.locator("main section:visible").count() == 4 and not page.is_visible("#filter")
        assert page.locator("nav a:visible").count() == 4
        page.click("summary >> nth=0")
        assert page.is_visible("details >> nth=0 >> table")


def test_pictures_are_decoded_when_they_come_into_view(started: Any, page_file: Path) -> None:
    with opened(started, page_file, 390) as page:
        page.locator("#explanation-3 img").last.scroll_into_view_if_needed()
        page.wait_for_function("document.querySelector('#explanation-3 .wide img').naturalWidth === 96")


def test_print_opens_what_is_folded_except_the_settings(started: Any, page_file: Path, tmp_path: Path) -> None:
    with opened(started, page_file, theme="dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        opened_parts = page.evaluate("[...document.querySelectorAll('details')].map(e => [e.className, e.open])")
        assert opened_parts and all(is_open == (name != "settings") for name, is_open in opened_parts)
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert not page.evaluate("[...document.querySelectorAll('details')].some(e => e.open)")
        assert len(page.pdf(format="A4")) > 10_000
