"""The preview card of a run: its drawing, and the typefaces that it is drawn with."""
