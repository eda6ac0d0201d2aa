"""The table of guarantees."""

from steps.sandbox.doctor import dealings, host, kernel, network, remains, resources
from steps.sandbox.doctor.guarantee import Guarantee

GUARANTEES: tuple[Guarantee, ...] = (
    *host.GUARANTEES,
    *network.GUARANTEES,
    *kernel.GUARANTEES,
    *resources.GUARANTEES,
    *dealings.GUARANTEES,
    *remains.GUARANTEES,
)
