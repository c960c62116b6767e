"""How success is measured: the independent judge, the joint rate between its references, and the report."""
