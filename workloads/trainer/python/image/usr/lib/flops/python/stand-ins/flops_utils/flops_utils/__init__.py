"""Stands in for the package flops_utils where that is not installed: what ML repositories import of it."""
