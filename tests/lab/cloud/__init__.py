"""A real OpenStack control plane on loopback: Keystone, Glance, Placement, Nova, Neutron, Cinder.

All are the released services, each a process of its own below one folder; only the hypervisor is Nova's fake one,
and the port binding and what volumes lie on are declared. Every request can be read back, and a fault
ordered, at the door of each service (`doors`).
"""
