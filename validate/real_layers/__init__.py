"""What do the inputs of a real layer look like? Layer files made from two small language models.

    python -m waterlevel.validate.real_layers            (remakes data/layers, see --help)

`calibration` is the text and the second moments of what a layer sees, `minilm` and `smollm` are the
forward passes in NumPy, `models` is what they share, `generation` makes files and manifest.
The moments come from BLAS products: they are input data and stand outside the exact path.
"""
