"""From files of video to a data set: found, cut, scored, captioned, encoded, and reported on."""
