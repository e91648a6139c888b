def attacks():
    return []
