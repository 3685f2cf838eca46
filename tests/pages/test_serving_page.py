"""The section about serving on the Plan page."""

from __future__ import annotations

from tests.pages.conftest import Open


def test_serving_is_worked_out_when_it_is_asked_for(open_app: Open) -> None:
    app = open_app()
    assert not [one for one in app.markdown if "Times of serving" in one.value]
    app.toggle(key="serve_on").set_value(True).run()
    app.number_input(key="serve_batch").set_value(64).run()
    assert not app.exception
    texts = [one.value for one in app.markdown]
    assert any("64 sequences of 4,096 tokens fit on one H100" in text for text in texts)
    assert any("Times of serving were compared with no published run" in text for text in texts)


def test_what_is_not_served_says_so(open_app: Open) -> None:
    app = open_app(model="google-bert/bert-base-uncased", method="Full fine-tuning", seq="512")
    app.toggle(key="serve_on").set_value(True).run()
    assert not app.exception
    assert any("is not served here" in one.value for one in app.caption)
