"""The catalogues: nothing missing, nothing doubtful, every place of a template in its translation, and templates found again in what is shown."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from planner import estimate
from planner.run import parse_run
from planner.summary import verdict
from planner.ui import method, po
from planner.ui.address import CHOICES, from_address
from planner.ui.language import CHINESE, PLACE, known, translate
from tests.messages.__main__ import CATALOGUES
from tests.messages.extract import of_source, texts

MOST_WAITING = 0.02
"""Share of texts that may wait for their translation, and are shown in English until then: a change need not wait for a translator."""


@pytest.mark.parametrize("language", CATALOGUES)
def test_every_text_has_a_translation(language: str) -> None:
    entries = {one.source: one for one in po.read(CATALOGUES[language].read_text(encoding="utf-8"))}
    found = texts()
    waiting = sorted(text for text in found if text not in entries or not entries[text].text)
    assert len(waiting) <= MOST_WAITING * len(found), f"python -m tests.messages --write, then translate: {waiting[:20]}"
    assert [one.source for one in entries.values() if one.fuzzy] == []
    wrong = [one.source for one in entries.values() if one.text and Counter(PLACE.findall(one.source)) != Counter(PLACE.findall(one.text))]
    assert wrong == []


def test_the_extraction_sees_what_a_page_shows() -> None:
    source = 'import streamlit as st\nst.caption(f"{steps} steps of {units.format_integer(tokens)} token{\'s\' if n > 1 else \'\'}", key="not this one")'
    assert sorted(of_source(source, 1)) == ["{steps} steps of {tokens} token", "{steps} steps of {tokens} tokens"]
    assert list(of_source('"""No text of a page."""\nx = {"a key": 1}["a key"]', 1)) == ["a key"]


def test_a_catalogue_is_written_as_it_is_read() -> None:
    messages = [po.Message('a "quoted"\nline', "甲", ("x.py",)), po.Message("b {n}", "", ("y.py",), fuzzy=True)]
    assert po.read(po.write(messages, "zh_CN")) == messages
    for path in CATALOGUES.values():
        text = path.read_text(encoding="utf-8")
        assert po.write(po.read(text), path.parts[-3]) == text


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("Weights", "权重"),
        ("Fits, with 45 GiB to spare per GPU", "放得下，每 GPU 余 45 GiB"),
        ("306 steps of 32,768 tokens", "306 步，每步 32,768 个词元"),
        ("Compute-bound: 52 % matrix products, 10 % attention.", "受限于计算：52 % 矩阵乘法，10 % 注意力。"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("Nobody wrote this sentence in the planner", "Nobody wrote this sentence in the planner"),
    ],
)
def test_a_sentence_is_recognised_by_its_template(english: str, chinese: str) -> None:
    assert translate(english, CHINESE) == chinese


@pytest.mark.parametrize("gpus", [1, 8])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_the_engine_says_is_all_chinese(gpus: int, method: str) -> None:
    """Verdict, limit, warnings and the first assumptions of real plans: no three English words in a row, but for names and sources."""
    e = estimate(parse_run({"model": "meta-llama/Llama-3.1-8B", "method": method, "hardware": {"gpu": "H100 SXM 80GB", "gpus": gpus}, "data": "10M"}))
    for sentence in (verdict(e).sentence, e.limited_by, *e.warnings):
        said = translate(sentence, CHINESE)
        assert not re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", said), (sentence, said)


def test_labels_of_one_input_stay_apart() -> None:
    for key, labels in CHOICES.items():
        said = [translate(label, CHINESE) for label in labels.values()]
        assert len(set(said)) == len(said), key


def test_an_address_is_read_in_either_language() -> None:
    fixed, remarks = from_address({"method": "全参数微调", "checkpointing": "full"})
    assert (fixed, remarks) == ({"method": "Full fine-tuning", "checkpointing": "Full"}, [])


def test_the_method_says_the_same_in_every_language() -> None:
    english, chinese = method.TEXT.read_text(encoding="utf-8"), method.TEXT.with_suffix(".zh.md").read_text(encoding="utf-8")
    for mark in (r"<<\w+>>", r"\[table: \w+\]", r"^## ", r"arXiv:[\d.]+"):
        assert Counter(re.findall(mark, english, re.MULTILINE)) == Counter(re.findall(mark, chinese, re.MULTILINE)), mark
    assert english.count("$$") == chinese.count("$$")


def test_a_translation_is_quick() -> None:
    """A page shows some two hundred texts; each is looked up once and then remembered."""
    assert len(known(CHINESE)) > 1500
    translate.cache_clear()
    translate("306 steps of 32,768 tokens", CHINESE)
    assert translate.cache_info().currsize >= 3
