"""Preparation of corpora: one module per corpus, each writes audio and a manifest that `ganse_tf.data.pairs` reads."""
