# The API's description is part of the program.
$(OUT)/serving/handle_openapi.o: schemas/openapi.json
