"""The bare handler, with the packages that this API's functions import beside psycopg, and one use of each."""

from app import lambda_handler
from aws_lambda_powertools import Logger
from pydantic import BaseModel

__all__ = ["lambda_handler"]

logger = Logger()


class Patient(BaseModel):
    name: str


Patient(name="Zoë")
