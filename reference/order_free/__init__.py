from .lattice import order_free
