"""Loaded pipelines, a file a family; these import torch and are imported when a family loads."""
