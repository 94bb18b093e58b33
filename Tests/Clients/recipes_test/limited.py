def run(emq): pass
