"""Adversarial attacks: functions of (view, photos, keyword-only knobs) that return cloaked photos. One file an attack.

An attack is found by its file's name (``fawkes_v1_0.py`` is ``fawkes-v1.0``); its knobs are its function's
keyword-only arguments; its summary is its docstring's first line. A file may also define:

- ``MODES``: names of modes, strengths from the weakest on, and the knobs that each sets; ``DEFAULT_MODE`` is one of
  them, or absent where records of the attack without a mode have none.
- ``TARGETS``: how many other people's embeddings it pulls a face to; by default 0.
- ``OLDER_NAMES``: what a knob was called before, and its name: settings may use either, records keep the older.
- ``PER_PERSON = True``: it makes one mask for all photos of a person. Its function takes one ``MaskView`` for
  each of them and the mask's shape, (3, S, S), and returns the mask instead of photos.

No attack imports torch before it is called. Files whose names begin with ``_`` are what attacks share.
"""
