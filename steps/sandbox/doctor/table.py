"""The table of guarantees."""

from steps.sandbox.doctor import dealings, host, network, privileges, remains, resources
from steps.sandbox.doctor.guarantee import Guarantee

GUARANTEES: tuple[Guarantee, ...] = (
    *host.GUARANTEES,
    *network.GUARANTEES,
    *privileges.GUARANTEES,
    *resources.GUARANTEES,
    *dealings.GUARANTEES,
    *remains.GUARANTEES,
)
