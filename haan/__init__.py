"""HAAN: weakly supervised detection of fine-grained actions in untrimmed video (Li et al., ECCV 2022)."""

__version__ = "0.1.0"
