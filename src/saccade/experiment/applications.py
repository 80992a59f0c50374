"""The applications of the package that add to what recipes can name. Each registers its own; importing this brings them in."""

import saccade.dehaze.pixel_maps
import saccade.robust.defences  # noqa: F401
