app = make()
