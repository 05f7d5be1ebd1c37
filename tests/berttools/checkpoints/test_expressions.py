"""Expressions are matched as by `re`, and those that it would take long for are matched in no time or refused."""

import re
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from berttools.checkpoints import expressions
from berttools.checkpoints.expressions import NotPlainError, compile_expression

ATOMS = st.sampled_from([
    "a", "b", ".", r"\.", r"\d", r"\w", r"\W", r"\s", r"\b", "^", "$", r"\Z", r"\A", "[ab.]", "[^a]", "[a-z0-9]",
    r"[^\d.]", "layer", "(?=a)", "(?!b)", "é", r"\n", "(?:a|b|ab)", "(|a)",
])  # fmt: skip
REPEATED = st.tuples(ATOMS, st.sampled_from(["", "*", "+", "?", "*?", "+?", "{2}", "{1,3}", "{0,2}?", "{2,}"]))


def repeat(atom):
    if atom[0] in (r"\b", "^", "$", r"\Z", r"\A"):
        return atom[0]
    return f"(?:{atom[0]}){atom[1]}"


SEQUENCES = st.lists(REPEATED.map(repeat), max_size=6).map("".join)
PATTERNS = st.lists(SEQUENCES, min_size=1, max_size=3).flatmap(
    lambda ways: st.sampled_from(["|".join(ways), rf"(.*\.)?({'|'.join(ways)})$", f"({'|'.join(ways)})?b"])
)


@given(PATTERNS, st.text("ab.1é_ \nlayer", max_size=12))
def test_names_match_as_by_re(pattern, name):
    assert compile_expression(pattern)(name) == (re.match(pattern, name) is not None)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (r"(.*\.)?(layers\.(?:[02-9]|1\d)\.(self_attn|mlp)\.(q|k|down)_proj)$", "model.layers.12.mlp.down_proj"),
        (r".*layers\.(\d|1[0-5])\..*_proj", "model.layers.15.mlp.up_proj"),
        (r"^(?!.*(vision|audio)).*\.q_proj$", "model.layers.1.q_proj"),
        (r".*experts\.\d{1,3}\.w[13]", "layers.0.experts.127.w3.weight"),
    ],
)  # fmt: skip
def test_expressions_of_adapters(pattern, name):
    assert re.match(pattern, name)
    assert compile_expression(pattern)(name)
    for other in (name.replace("1", "x"), name[5:], "vision." + name, "lm_head"):
        assert compile_expression(pattern)(other) == (re.match(pattern, other) is not None)


@pytest.mark.parametrize(
    "pattern", ["a?" * 100 + "a" * 60 + "!", "(aa|aa)" * 60 + "!", ".*" * 200 + "!", "(a|a)*!", "a{0,4000000}!"]
)
def test_expressions_that_re_takes_forever_for(pattern):
    assert not compile_expression(pattern)("a" * 120)
    assert compile_expression(pattern)("a" * 120 + "!")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"([\w.]+)+!", "repeats what repeats"),
        (r"((a{2}){2})", "repeats what repeats"),
        (r"(a)\1", "refers back"),
        (r"(a)?(?(1)b|c)", "refers back"),
        ("a" * 501, "501 characters"),
        ("(" * 30 + "a" + ")" * 30, "nested too deep"),
        ("(?i)query", "changes flags"),
        ("(?i:query)", "subpattern"),
        ("(?<=a)b", "assert"),
        ("a++", "possessive"),
    ],
)
def test_others_are_refused(pattern, why):
    with pytest.raises(NotPlainError, match=why):
        compile_expression(pattern)


def test_what_is_no_expression(monkeypatch):
    for text in ("((", "a)(?i)b", "[z-a]"):
        with warnings.catch_warnings(), pytest.raises(re.error):
            compile_expression(text)
    monkeypatch.setattr(expressions.importlib, "import_module", lambda name: __import__("no_" + name))
    with pytest.raises(NotPlainError, match="this version of Python"):
        compile_expression("never seen before")
