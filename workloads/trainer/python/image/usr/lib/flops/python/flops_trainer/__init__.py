"""Runs users' Python training code as a trainer of `flops learner`.

The learner starts `flops-trainer` and drives it by frames on a socket (workloads/trainer/protocol.h). Code
comes in one of three shapes: a class Trainer (trainer.py; see native.py), a FLOps repository (model_manager.py;
see flops.py), or a Flower client or app (see flower.py). NumPy is all that is needed besides Python.

Parts, each knowing only those before it: failure, protocol, tensors, data, results, the three shapes, code,
watch, service, cli.
"""
