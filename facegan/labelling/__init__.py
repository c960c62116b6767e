"""Attributes for faces without any: raters learned from some labelled faces, and scores that are probabilities."""
