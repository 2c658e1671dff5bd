"""A Llama-like decoder in which no sum rounds: any library, any order, one result.

Reading order:

1. `integers`        how can a product of matrices be exact, whoever multiplies?
2. `exponential`     2ˣ by a polynomial in integers
3. `normalization`   the root mean square
4. `rotary`          where a token stands: cosines from repeated multiplication
5. `attention`       scores, softmax and values; nothing from later tokens
6. `feed_forward`    SwiGLU
7. `configuration`, `decoder`    the model: four groups of linear layers a block
8. `likelihood`      what a text costs
9. `sequence_moments`    what a layer sees of a text, exact within a sequence
10. `passes`         the element-wise work, and who else may do it
"""

from .configuration import Configuration, Rotary
from .decoder import GROUPS, Block, Decoder, Stream
from .integers import Linear
from .passes import Passes
from .sequence_moments import SequenceSum, sequence_moment

__all__ = [
    "GROUPS",
    "Block",
    "Configuration",
    "Decoder",
    "Linear",
    "Passes",
    "Rotary",
    "SequenceSum",
    "Stream",
    "sequence_moment",
]
