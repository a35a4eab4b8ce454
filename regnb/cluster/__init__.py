"""Kubernetes: what a cluster runs, manifests that put a registry there, conversion of old Ingresses, reachability."""

__all__ = ["ingress", "reach", "resources", "running"]
