"""Pictures: sheets, grids, comparisons, videos; imported by whoever shows something."""
