"""What a program reads first: what is sold here, and how."""

from flask import Blueprint

from lightningspace import openapi
from lightningspace.answers import success
from lightningspace.visitors import this_shop

discovery = Blueprint("discovery", __name__)


@discovery.get(f"{openapi.PREFIX}/openapi.json")
def openapi_json():
    return success(openapi.document(this_shop()))
