"""Loads the native module named in SACCADE_NATIVE in the place of the installed one, in children too (see the Makefile)."""

import importlib.util
import os
import sys


class _Aside:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "saccade._native":
            return importlib.util.spec_from_file_location(name, os.environ["SACCADE_NATIVE"])
        return None


sys.meta_path.insert(0, _Aside)
