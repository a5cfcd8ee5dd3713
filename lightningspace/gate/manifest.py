"""The gate's services as programs find them: in L402's manifest, and in OpenAPI's words."""

from lightningspace.gate import selling
from lightningspace.gate.answers import PROBLEM
from lightningspace.gate.services import Gate, Service

# The method named for a service without capabilities: which others it takes, its upstream decides.
METHOD = "GET"


def services(gate: Gate) -> list[dict]:
    """The services of the manifest (the draft of L402's discovery)."""
    return [
        {
            "name": service.name,
            "description": service.title,
            "tiers": [{"tier": 0}],
            "capabilities": [name for name, _ in service.capabilities],
            "resources": [_resource(service, *each) for each in _methods(service)],
        }
        for service in gate.services
    ]


def caveats(gate: Gate) -> dict:
    """The caveats of those services, and how a holder may narrow them."""
    told = {}
    for service in gate.services:
        told[f"{service.name}_valid_until"] = {
            "type": "timestamp",
            "attenuation": "earlier",
            "description": "Unix seconds.",
        }
        if service.capabilities:
            names = ", ".join(name for name, _ in service.capabilities)
            told[f"{service.name}_capabilities"] = {
                "type": "string",
                "attenuation": "subset",
                "description": f"Some of {names}, joined by commas.",
            }
    return told


def paths(gate: Gate, host: str) -> dict:
    """The paths of those services for an OpenAPI document, at this host."""
    found = {}
    for service in gate.services:
        item = {"servers": [{"url": host}]}
        for method, capability in _methods(service):
            item[method.lower()] = _operation(service, method, capability)
        found[f"{service.location}{{path}}"] = item
    return found


def _methods(service: Service) -> list[tuple[str, str | None]]:
    named = [(each, name) for name, methods in service.capabilities for each in methods]
    return named or [(METHOD, None)]


def _resource(service: Service, method: str, capability: str | None) -> dict:
    needs = {"capability": capability} if capability else {}
    path = f"{service.location}*"
    return {"path": path, "method": method, **needs, "pricing": _pricing(service)}


def _pricing(service: Service) -> dict:
    """What an invoice is for; requests use a bundle up."""
    told = {"model": "fixed", "price_msat": service.price_sat * 1000, "seconds": service.seconds}
    if service.bundle:
        told |= {"bundle_msat": service.bundle.msat, "costs": selling.costs(service)}
    return told


def _operation(service: Service, method: str, capability: str | None) -> dict:
    operation = {
        "operationId": f"{method.lower()}-{service.name}",
        "summary": service.title,
        "parameters": [
            {"name": "path", "in": "path", "required": True, "schema": {"type": "string"}}
        ],
        "security": [{}, {"L402": [capability] if capability else []}],
        "responses": {
            "default": {"description": "What is behind the gate answers"},
            "402": {
                "description": "An invoice, in WWW-Authenticate and in the body",
                "content": {PROBLEM: {"schema": {"type": "object"}}},
            },
        },
        "x-l402-service": service.name,
        "x-l402-pricing": _pricing(service),
    }
    if capability:
        operation["x-l402-capability"] = capability
    if service.body:
        operation["description"] = service.body
    return operation
