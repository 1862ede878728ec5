"""A logger, as flops_utils.logging has it."""

import logging

logger = logging.getLogger("flops")
if not logger.handlers:
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
