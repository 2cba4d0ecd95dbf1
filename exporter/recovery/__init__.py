"""``--recover auto``: one remedy after the other, until int8 is as accurate as was asked for."""
