"""Loads the native modules named in SACCADE_NATIVE and SACCADE_ENGINE in the place of the installed ones, in children too (see
the Makefile)."""

import importlib.util
import os
import sys

PLACES = {"saccade._native": "SACCADE_NATIVE", "saccade._engine": "SACCADE_ENGINE"}


class _Aside:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, os.environ[PLACES[name]]) if name in PLACES else None


sys.meta_path.insert(0, _Aside)
