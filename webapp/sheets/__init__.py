"""A sheet: one document that a person and models write together. What a run is stands in `webapp.runs`."""
