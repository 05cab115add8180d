package diskimage_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/diskimage-go/diskimage"

// A goFile is one file of the module's own tree, parsed, whatever system it
// is built for.
type goFile struct {
	path  string // from the module's root, with slashes
	dir   string // its folder, "." for the root
	test  bool
	lines int
	ast   *ast.File
}

// imports returns the paths that the file imports.
func (f goFile) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		paths = append(paths, strings.Trim(spec.Path.Value, `"`))
	}
	return paths
}

type goTree struct {
	fset  *token.FileSet
	files []goFile
	err   error
}

// parseTree reads every Go file of this module: without a toolchain, so that
// files for other systems are seen too. Folders that the go command ignores,
// and those with a go.mod of their own, are not part of it.
var parseTree = sync.OnceValue(func() goTree {
	t := goTree{fset: token.NewFileSet()}
	t.err = filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch base := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && name != ".":
			if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
				return fs.SkipDir
			}
			return nil
		case d.IsDir() || !strings.HasSuffix(base, ".go"):
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(t.fset, name, src, parser.ParseComments)
		if err != nil {
			return err
		}
		slashed := filepath.ToSlash(name)
		t.files = append(t.files, goFile{
			path:  slashed,
			dir:   path.Dir(slashed),
			test:  strings.HasSuffix(slashed, "_test.go"),
			lines: bytes.Count(src, []byte("\n")),
			ast:   file,
		})
		return nil
	})
	return t
})

// tree returns the parsed module.
func tree(t *testing.T) goTree {
	t.Helper()
	all := parseTree()
	require.NoError(t, all.err)
	require.Greater(t, len(all.files), 5, "the tests must run in the module's root")
	return all
}

// receiver returns the name of the type that fn is a method of, or "".
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return ""
	}
	expr := fn.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}
