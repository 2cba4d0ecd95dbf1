"""The error tree. Every error below means "the request was wrong" (exit code 2).

* ExporterError
  x ConfigError        an option or a recipe that cannot be honoured
  x DataError          images, labels or splits that cannot be used
  x ModelError         an unknown model, a checkpoint that does not fit
  x GraphError         an ONNX file that is not what the step needs
    - CoverageError    an operator did not become an integer kernel
  x CacheError         the cache or an artifact in it is damaged
  x OutputError        the result cannot be written where it was asked for
  x BundleError        a bundle or an archive of one that is damaged, forged or not one
  x DeviceError        a device cannot be reached, or the check on it failed
  x EmulationError     an emulated CPU is not available, or a run on it failed

A failed gate is a result, not an error (exit code 1). Anything else that is raised is a bug.

Messages are one line: the value, the limit, and the way out.
"""

from __future__ import annotations


class ExporterError(Exception):
    """The request cannot be honoured; the message says why and what to do instead."""


class ConfigError(ExporterError):
    """An option or a recipe key is unknown, out of range or contradicts another."""


class DataError(ExporterError):
    """Images, labels or splits cannot be used as they are."""


class ModelError(ExporterError):
    """A model reference is unknown or a checkpoint does not fit it."""


class GraphError(ExporterError):
    """An ONNX file is unreadable, unsupported or not what this step needs."""


class CoverageError(GraphError):
    """An operator that should run as an integer kernel does not."""


class CacheError(ExporterError):
    """A cached result is damaged, or the cache folder cannot be used."""


class OutputError(ExporterError):
    """A result cannot be written where it was asked for."""


class EmulationError(ExporterError):
    """An emulated CPU is not available here, or a run on it failed."""


class BundleError(ExporterError):
    """A bundle, or an archive of one, is damaged, forged or not one at all."""


class DeviceError(ExporterError):
    """A device cannot be reached, lacks something, or what it says cannot be used."""
