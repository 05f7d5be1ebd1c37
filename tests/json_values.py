"""JSON of any kind, such as strangers' files hold, and objects whose keys are those that are looked at."""

from hypothesis import strategies as st

_TEXT = st.text("ab.1\u00e9 \n", max_size=4)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | _TEXT
JSON = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3))


def objects(**known):
    """Draw objects with any of the keys: each has one of the values that are given, or any other."""
    fields = {
        key: (values if isinstance(values, st.SearchStrategy) else st.sampled_from([*values, None])) | JSON
        for key, values in known.items()
    }
    return st.fixed_dictionaries({}, optional=fields)
