"""Faces in photographs: where they are, cut out as FFHQ's are, and put back."""
