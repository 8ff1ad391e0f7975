"""Scores of the released systems and the pages made from them; README.md in this folder says by which commands."""
