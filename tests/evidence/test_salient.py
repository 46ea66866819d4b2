"""The table of Salient ImageNet: how it is read, and which files are refused."""

from pathlib import Path

import pytest

from diffexplain_fast.evidence.salient import Judgement, read_judgements

HEAD = "WorkerId,Input.class_index,Input.feature_index,Answer.main,Answer.reasons\n"


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "salient: wanted a table with the columns .* got no Input.class_index"),
        (HEAD, "salient: wanted at least one answer"),
        (HEAD + "w,fish,2,background,\n", "salient: wanted numbers of class and feature, got 'fish' and '2' in line 2"),
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
