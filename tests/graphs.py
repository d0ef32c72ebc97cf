"""What a traced function really runs."""


def operators_needed(graph) -> set:
    """The operators that a graph needs for what it returns."""
    needed, waiting = set(), [tensor.op for tensor in graph.outputs]
    while waiting:
        op = waiting.pop()
        if op not in needed:
            needed.add(op)
            waiting += [tensor.op for tensor in op.inputs]
    return needed


def types_needed(graph) -> list[str]:
    """The types of the operators that a graph needs for what it returns."""
    return [op.type for op in operators_needed(graph)]
