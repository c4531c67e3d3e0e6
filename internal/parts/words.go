package parts

// InFile says settings by the keys of the file, and by flags where one is to be set. It is a
// report.Words, and tests read texts with it as the users of the program do.
func InFile(key, value string, set bool) string {
	flag := map[string]string{"allow_origins": "--allow-origin", "methods.allow": "--allow-method", "backend.tls": "--backend-tls"}[key]
	switch {
	case !set || flag == "":
		return key
	case value != "":
		return flag + " " + value
	case key == "allow_origins":
		return flag + " (" + key + ")"
	}
	return flag
}
