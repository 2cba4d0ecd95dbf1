"""Networks that are no classifiers: int8 judged by how far its outputs agree with the float's."""
