"""Every suite to its end on files in the exact formats, by the shipped model and its rivals; and damaged files."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eval import answers, report
from eval.__main__ import main, shares
from eval.metrics import scrm
from eval.question import Answer, Options, Question
from eval.readers import Program, ReadConfig, cut, opened
from eval.run import RunConfig, run
from eval.suites import suites
from got_jax.errors import GotError

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "benchmarks"
PLACES = {
    "fox-page": "focus_benchmark_test", "fox-region": "focus_benchmark_test", "fox-line": "focus_benchmark_test",
    "fox-color": "focus_benchmark_test", "fox-multipage": "focus_benchmark_test", "scene": "got", "formatted": "got",
    "sheet-music": "got", "geometry": "got", "chartqa-se": "ChartSE_Benchmark", "plotqa-se": "ChartSE_Benchmark",
    "omnidocbench": "OmniDocBench", "olmocr-bench": "olmOCR-bench",
}  # fmt: skip
QUICK = ReadConfig(batch_size=4, max_new_tokens=32)


def truth_of(question: Question) -> str:
    """What a perfect reader would answer."""
    if isinstance(question.truth, str):
        return question.truth
    if isinstance(question.truth, scrm.Chart):
        return json.dumps({**question.truth.titles, "values": question.truth.values})
    if hasattr(question.truth, "blocks"):
        return "\n\n".join(block.content for block in question.truth.blocks)
    return {
        "multi_column/harbour_pg1": "The harbour master keeps a book.\nIt is older than the town itself.",
        "tables/prices_pg1": r"\begin{tabular}{ll} month & pence \\ spring & 4 \\ autumn & 6 \end{tabular}",
        "arxiv_math/tides_pg1": r"The height is \(h = a \cos t\). Here \(a = 2\).",
    }[question.name]


class Perfect:
    """Answers as the label says; `stop_after` questions it is killed."""

    def __init__(self, stop_after: int = 10**6) -> None:
        self.left = stop_after

    def answers(self, questions):
        for question in questions:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            yield Answer(truth_of(question), stop="end", seconds=0.5)


def test_every_suite_has_a_fixture():
    assert set(PLACES) | {"synth"} == set(suites())


@pytest.mark.parametrize("name", PLACES)
def test_a_perfect_reader(name, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.readers.make", lambda model, config: Perfect())
    found = run(suites()[name], RunConfig(("perfect",), DATA / PLACES[name], tmp_path))
    assert found is not None
    assert found.whole
    [entry] = found.entries
    assert all(error == pytest.approx(0, abs=1e-9) for error in entry.scores.errors)
    for table in entry.scores.tables:
        line = table.lines["correct"]
        assert line, table.title
        good = {
            "f1",
            "precision",
            "recall",
            "ap_strict",
            "exact",
            "teds",
            "teds_s",
            "overall",
            "overall_ned",
            "structure",
        }
        bad = {"edit_distance", "cer", "ser", "ler", "text_edit", "formula_edit", "order_edit", "table_edit"}
        assert all(line[name] == pytest.approx(1) for name in good & set(line)), (table.title, line)
        assert all(line[name] == pytest.approx(0) for name in bad & set(line)), (table.title, line)
    report.write(found, tmp_path)
    page = (tmp_path / name / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8"))["whole"]


@pytest.mark.slow
@pytest.mark.parametrize("name", PLACES)
def test_readers_side_by_side(name, tmp_path):
    """The shipped model, tesseract and rapidocr: one table each, counts, the worst cases with pictures."""
    models = ("nano", "tesseract", "rapidocr")
    found = run(suites()[name], RunConfig(models, DATA / PLACES[name], tmp_path, read=QUICK))
    assert found is not None
    points = name == "fox-line"  # a point marks no part that could be cut out
    assert found.whole != points
    for entry in found.entries:
        assert bool(entry.failed) == (points and entry.model != "nano")
        assert len(entry.answers) == len(found.loaded.questions)
    report.write(found, tmp_path)
    markdown = (tmp_path / name / "report.md").read_text(encoding="utf-8")
    assert all(f"| {model} | correct |" in markdown for model in models)
    assert ("| published |" in markdown) == (name not in ("fox-line", "fox-multipage", "omnidocbench", "olmocr-bench"))
    assert "data:image/jpeg;base64," in (tmp_path / name / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_rivals_read_the_part_that_is_asked_for(tmp_path):
    for name in ("fox-region", "fox-color"):
        config = RunConfig(("rapidocr",), DATA / PLACES[name], tmp_path, read=QUICK)
        found = run(suites()[name], config)
        assert found is not None
        for table in found.entries[0].scores.tables:
            assert table.lines["correct"]["edit_distance"] < 0.25, (name, table.title, table.lines)


@pytest.mark.slow
def test_synth_reads_engines_of_the_day(tmp_path, capsys):
    argv = ["synth", "--engines", "slices", "hands", "--languages", "en", "--count", "2", "--out", str(tmp_path)]
    assert main([*argv, "--model", "nano", "rapidocr", "--max-new-tokens", "32"]) == 0
    out = capsys.readouterr().out
    assert "slices en" in out
    assert "hands en" in out
    assert main([*argv, "--engines", "nothing"]) == 2
    assert "engine nothing is unknown" in capsys.readouterr().err


def test_a_cut_run_goes_on_and_gives_the_same_file(tmp_path):
    questions = suites()["fox-page"].load(DATA / "focus_benchmark_test", Options()).questions
    whole = answers.collect(Perfect, questions, tmp_path / "whole", {"a": 1})
    with pytest.raises(KeyboardInterrupt):
        answers.collect(lambda: Perfect(stop_after=2), questions, tmp_path / "cut", {"a": 1})
    part = next((tmp_path / "cut").glob("answers.jsonl.*"))
    with open(part, "a", encoding="utf-8") as out:
        out.write('{"name": "zh/cn_1.png", "answ')  # the line that was being written
    again = answers.collect(lambda: Perfect(stop_after=len(questions) - 2), questions, tmp_path / "cut", {"a": 1})
    assert again == whole
    files = [(tmp_path / run / "answers.jsonl").read_bytes() for run in ("whole", "cut")]
    assert files[0] == files[1]
    with pytest.raises(GotError, match="answers of another run"):
        answers.collect(Perfect, questions, tmp_path / "cut", {"a": 2})


def test_processes_share_the_questions(tmp_path):
    questions = suites()["fox-page"].load(DATA / "focus_benchmark_test", Options()).questions
    alone = answers.collect(Perfect, questions, tmp_path / "alone", {})
    shared = [answers.collect(lambda: Perfect(2), questions, tmp_path / "both", {}, i, 2) for i in (1, 0)]
    assert shared == [None, alone]
    files = [(tmp_path / run / "answers.jsonl").read_bytes() for run in ("alone", "both")]
    assert files[0] == files[1]


def test_shares(monkeypatch):
    assert shares(None, None) == (0, 1)
    assert shares(1, 4) == (1, 4)
    monkeypatch.setenv("SLURM_PROCID", "2")
    monkeypatch.setenv("SLURM_NTASKS", "3")
    assert shares(None, None) == (2, 3)
    with pytest.raises(GotError, match="number them from 0"):
        shares(4, 4)


def copied(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / PLACES[name], tmp_path / name))


def edit(path: Path, change) -> None:
    entries = json.loads(path.read_text(encoding="utf-8"))
    change(entries)
    path.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")


def test_what_is_wrong_with_files_is_named(tmp_path):
    folder = copied("fox-page", tmp_path)
    edit(folder / "en_page_ocr.json", lambda entries: entries.extend([
        entries[0], {"image": "gone.png", "conversations": entries[0]["conversations"]}, {"image": "en_1.png"}, 7,
        {"image": "../secret.png", "conversations": entries[0]["conversations"]},
    ]))  # fmt: skip
    edit(folder / "cn_page_ocr.json", lambda entries: (
        entries[0]["conversations"][1].update(value="一\r\n二"), entries[1]["conversations"][1].update(value=""),
    ))  # fmt: skip
    loaded = suites()["fox-page"].load(folder, Options())
    assert [q.name for q in loaded.questions] == ["en/en_1.png", "en/en_2.png", "zh/cn_1.png", "zh/cn_2.png"]
    for what in (
        "was there before",
        "'gone.png' is missing",
        "no question and answer",
        "no JSON object",
        "lies outside",
    ):
        assert sum(what in problem for problem in loaded.problems) == 1, what
    assert loaded.questions[2].truth == "一\n二"
    assert any("line ends of Windows" in note for note in loaded.notes)
    assert any("cn_2.png: the label is empty" in note for note in loaded.notes)
    (folder / "en_page_ocr.json").write_text("{", encoding="utf-8")
    with pytest.raises(GotError, match="is no JSON"):
        suites()["fox-page"].load(folder, Options())
    with pytest.raises(GotError, match="holds none of"):
        suites()["fox-page"].load(tmp_path / "nowhere", Options())


def test_files_that_are_not_there_are_said(tmp_path):
    folder = copied("fox-page", tmp_path)
    (folder / "cn_page_ocr.json").unlink()
    loaded = suites()["fox-page"].load(folder, Options())
    assert {q.group for q in loaded.questions} == {"en"}
    assert "zh is not scored" in loaded.notes[0]


def test_a_file_of_any_name_is_read(tmp_path):
    """Names of GOT's own files are not known for sure; one file may be named, and its labels tell the language."""
    folder = copied("scene", tmp_path)
    both = [json.loads((folder / f"scene_{lang}.json").read_text(encoding="utf-8")) for lang in ("en", "zh")]
    (folder / "SceneTest.json").write_text(json.dumps([*both[0], *both[1]]), encoding="utf-8")
    loaded = suites()["scene"].load(folder / "SceneTest.json", Options(count=1))
    assert [(q.name, q.group) for q in loaded.questions] == [("en/en_1.png", "en"), ("zh/zh_1.png", "zh")]
    assert not loaded.problems


def test_damaged_rows_of_the_other_formats(tmp_path):
    folder = copied("chartqa-se", tmp_path)
    edit(folder / "ChartQA_test_human_filter.json", lambda entries: entries.extend([entries[0], {"images": "x.png"}]))
    loaded = suites()["chartqa-se"].load(folder, Options())
    assert len(loaded.questions) == 2
    assert len(loaded.problems) == 2
    folder = copied("omnidocbench", tmp_path)
    edit(
        folder / "OmniDocBench.json",
        lambda entries: (entries.append({}), entries[0]["page_info"].update(image_path="x")),
    )
    loaded = suites()["omnidocbench"].load(folder, Options())
    assert len(loaded.questions) == 2
    assert len(loaded.problems) == 2
    folder = copied("olmocr-bench", tmp_path)
    with open(folder / "bench_data" / "arxiv_math.jsonl", "a", encoding="utf-8") as out:
        gone = {"pdf": "gone.pdf", "page": 1, "id": "g", "type": "present", "text": "x"}
        beyond = gone | {"pdf": "arxiv_math/tides.pdf", "page": 9, "id": "h"}
        for row in ('{"type": "math"}', "no json", '{"type": "odd"}', json.dumps(gone), json.dumps(beyond)):
            out.write(row + "\n")
    (folder / "bench_data" / "pdfs" / "tables" / "prices.pdf").write_bytes(b"broken")
    loaded = suites()["olmocr-bench"].load(folder, Options())
    assert len(loaded.problems) == 6
    assert len(loaded.questions) == 2


def test_answers_of_others_are_matched_by_name(tmp_path, capsys):
    questions = suites()["fox-page"].load(DATA / "focus_benchmark_test", Options()).questions
    rows = [{"image": q.name.split("/")[1], "label": "", "answer": q.truth} for q in questions]
    path = tmp_path / "results_final.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    argv = [
        "fox-page",
        "--data",
        str(DATA / "focus_benchmark_test"),
        "--out",
        str(tmp_path / "out"),
        "--answers",
        str(path),
    ]
    assert main(argv) == 0
    rows[0] = {"image": "strange.png", "answer": "x"}
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    assert main(argv) == 1
    shown = capsys.readouterr()
    assert "strange.png answers no question" in shown.err
    assert "en/en_1.png has no answer" in shown.err
    assert "1 failed" in shown.out
    assert main([*argv, "--allow-missing"]) == 0
    path.write_text(json.dumps([*rows, rows[1]], ensure_ascii=False), encoding="utf-8")
    assert main(argv) == 2
    assert "two answers" in capsys.readouterr().err
    path.write_text('[{"answer": 1}]', encoding="utf-8")
    assert main(argv) == 2


def test_markdown_folders_are_answers(tmp_path):
    suite = suites()["omnidocbench"]
    loaded = suite.load(DATA / "OmniDocBench", Options())
    assert suite.export is not None
    suite.export(tmp_path, loaded.questions, [truth_of(q) for q in loaded.questions])
    found = run(suite, RunConfig((), DATA / "OmniDocBench", tmp_path, answers=tmp_path / "predictions"))
    assert found is not None
    assert found.whole
    assert found.entries[0].scores.tables[0].lines["correct"]["overall_ned"] == pytest.approx(1)


def test_mistakes_are_one_sentence(tmp_path, capsys):
    cases = (
        (["fox-page"], "--data DIR"),
        (["fox-page", "--data", str(tmp_path)], "holds none of"),
        (["scene", "--data", str(DATA / "got"), "--model", "none"], "model 'none' is unknown"),
        (["scene", "--data", str(DATA / "got"), "--model", "transformers:none"], "does not exist"),
        (["scene", "--data", str(DATA / "got"), "--count", "-1"], "--count is -1"),
        (["scene", "--data", str(DATA / "got"), "--batch-size", "0"], "--batch-size is 0"),
        (["scene", "--data", str(DATA / "got"), "--process", "3", "--processes", "2"], "process 3 of 2"),
    )
    for argv, says in cases:
        assert main([*argv, "--out", str(tmp_path / "out")]) == 2
        assert says in capsys.readouterr().err
    done = subprocess.run([sys.executable, "-m", "eval", "fox-page"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_a_broken_picture_is_a_failure_by_name(tmp_path):
    folder = copied("scene", tmp_path)
    (folder / "scene_en" / "en_1.png").write_bytes(b"broken")
    found = run(suites()["scene"], RunConfig(("nano",), folder, tmp_path / "out", read=QUICK))
    assert found is not None
    assert not found.whole
    assert "en_1.png" in found.entries[0].failed[0]
    (folder / "scene_en" / "en_1.png").write_bytes((DATA / "got" / "scene_en" / "en_1.png").read_bytes())
    again = run(suites()["scene"], RunConfig(("nano",), folder, tmp_path / "out", read=QUICK))
    assert again is not None
    assert again.whole, "what failed is tried again"


def test_points_mark_no_part():
    question = suites()["fox-line"].load(DATA / "focus_benchmark_test", Options()).questions[0]
    assert question.region is not None
    with pytest.raises(GotError, match="a point"):
        cut(np.asarray(opened(question.pictures[0])), question.region)
    [answer] = Program("tesseract").answers([question])
    assert "a point" in answer.error


def test_html_shows_text_as_text(tmp_path, monkeypatch):
    hostile = "<script>alert(1)</script>"

    class Hostile:
        def answers(self, questions):
            return (Answer(hostile) for _ in questions)

    monkeypatch.setattr("eval.readers.make", lambda model, config: Hostile())
    found = run(suites()["scene"], RunConfig((hostile,), DATA / "got", tmp_path))
    assert found is not None
    assert hostile not in report.as_html(found)
    assert report.diff("<b>", "<i>") == "&lt;<del>b</del><ins>i</ins>&gt;"


def test_crop_asks_for_tiles():
    suite = suites()["formatted"]
    [question] = suite.load(DATA / "got", Options(crop=True)).questions
    assert question.crop
    assert question.query == "OCR with format upon the patch reference: "
    [plain] = suite.load(DATA / "got", Options()).questions
    assert dataclasses.replace(question, query=plain.query, crop=False) == plain
