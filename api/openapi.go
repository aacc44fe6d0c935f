package api

import _ "embed"

//go:embed openapi.json
var openAPI []byte

//go:embed openapi_ops.json
var openAPIOps []byte

//go:embed openapi_work.json
var openAPIWork []byte

// OpenAPI returns the document served at /openapi.json. It must not be changed.
func OpenAPI() []byte { return openAPI }

// OpenAPIOps returns the document of the operations listener, served at its /openapi.json. It must
// not be changed.
func OpenAPIOps() []byte { return openAPIOps }

// OpenAPIWork returns the document of the work listener, served at its /openapi.json. It must not be changed.
func OpenAPIWork() []byte { return openAPIWork }
