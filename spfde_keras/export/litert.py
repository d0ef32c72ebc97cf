"""LiteRT and FlatBuffers, which come with the extra "export": imported where a file is read."""

from spfde_keras.extras import extra

with extra("export"):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

__all__ = ["Interpreter", "flatbuffers", "schema"]
