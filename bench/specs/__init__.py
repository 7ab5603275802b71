"""Specs: the shipped ones, and what a spec file may hold."""
