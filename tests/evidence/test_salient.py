"""The table of Salient ImageNet: how it is read, and which files are refused."""

from pathlib import Path

import pytest

from diffexplain_fast.evidence.salient import Judgement, read_judgements

HEAD = "WorkerId,Input.class_index,Input.feature_index,Answer.main,Answer.reasons\n"
NUMBERS = "salient: wanted numbers of class and feature, at least 0"
ANSWERS = "salient: wanted an answer separate_object, background or main_object"


def table(folder: Path, answers: dict[tuple[int, int], list[str]]) -> Path:
    """Write a table: a row for each answer."""
    rows = [
        f'w{i},{c},{f},{answer},"a reason, with a comma"\n'
        for (c, f), said in answers.items()
        for i, answer in enumerate(said)
    ]
    path = folder / "table.csv"
    path.write_text(HEAD + "".join(rows))
    return path


def test_three_of_five_workers_decide(tmp_path: Path) -> None:
    told = ["separate_object", "background", "main_object", "main_object"]
    path = table(tmp_path, {(3, 7): [*told, "background"], (3, 8): [*told, "main_object"]})
    found = read_judgements(path)
    assert found == {(3, 7): Judgement(3, 5), (3, 8): Judgement(2, 5)}
    assert found[3, 7].spurious and not found[3, 8].spurious


def test_capitals_and_spaces_of_an_answer_do_not_matter(tmp_path: Path) -> None:
    told = ["Background", " background", "SEPARATE_OBJECT ", "Main_Object", "main_object"]
    assert read_judgements(table(tmp_path, {(3, 7): told})) == {(3, 7): Judgement(3, 5)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "salient: wanted a table with the columns .* got no Input.class_index"),
        (HEAD, "salient: wanted at least one answer"),
        (HEAD + "w,fish,2,background,\n", f"{NUMBERS}, got 'fish' and '2' in line 2"),
        (HEAD + 'w,3,2,main_object,"two\nlines"\nw,3,-1,background,\n', f"{NUMBERS}, got '3' and '-1' in line 4"),
        (HEAD + "w,-3,2,background,\n", f"{NUMBERS}, got '-3' and '2' in line 2"),
        (HEAD + "w,3\n", f"{NUMBERS}, got '3' and None in line 2"),
        (HEAD + "w,3,2,,\n", f"{ANSWERS}, got '' in line 2"),
        (HEAD + "w,3,2,n/a,\n", f"{ANSWERS}, got 'n/a' in line 2"),
        (HEAD + "w,3,2\n", f"{ANSWERS}, got None in line 2"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_judgements(tmp_path / "table.csv")


def test_a_file_that_is_no_text_or_no_table_is_refused(tmp_path: Path) -> None:
    head = b"Input.class_index,Input.feature_index,Answer.main\n"
    for content, message in ((b"\xff\xfe\x00", "UTF-8"), (head + b'0,"' + b"1" * 140_000 + b'",x\n', "CSV.*in line")):
        (tmp_path / "table.csv").write_bytes(content)
        with pytest.raises(ValueError, match=f"salient: wanted a table .*{message}"):
            read_judgements(tmp_path / "table.csv")
