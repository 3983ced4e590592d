"""How ``train backbone`` makes a folder of pipelines."""
