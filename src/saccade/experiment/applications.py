"""The applications of the package that add to what recipes can name. Each registers its own; importing this brings them in."""

import saccade.dehaze.pixel_maps
import saccade.robust.defences
import saccade.track.composites
import saccade.track.folders
import saccade.track.task  # noqa: F401
