"""One paper, one file. `ganse_tf.SEGAN` is the short way to `ganse_tf.models.segan.SEGAN`, and so on."""
