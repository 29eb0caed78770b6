"""The compiler: one declared network in, signed and content-addressed releases out.

Modules import only downward; the floors are listed in docs/architecture.md and held by a test.
"""
