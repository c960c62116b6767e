"""Training a restorer on a generative prior (GPEN)."""
