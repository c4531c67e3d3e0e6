def greet(name):
    return "hello " + name


pritn(greet("world"))
