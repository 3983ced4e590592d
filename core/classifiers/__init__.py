"""A classifier: how it is asked, how pictures are prepared for it, its units and features."""
